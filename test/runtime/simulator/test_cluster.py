"""A CTA is a cluster of its own; clusters of several CTAs are refused when they are loaded."""

import numpy as np
import pytest

from tilewright.runtime import simulator

TEXT = """.version 8.0
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 y) DIRECTIVE {
    .reg .b32 %r<9>; .reg .b64 %d<3>;
    mov.u32 %r1, %cluster_nctarank; mov.u32 %r2, %cluster_ctarank; mov.u32 %r3, %clusterid.x;
    mov.u32 %r4, %nclusterid.x; mov.u32 %r5, %ctaid.x; ld.param.u64 %d1, [y];
    mad.wide.u32 %d1, %r5, 16, %d1; st.global.v4.b32 [%d1], {%r1, %r2, %r3, %r4}; ret;
}
"""


@pytest.mark.parametrize("directive", ["", ".reqnctapercluster 1, 1, 1"])
def test_cluster_registers_of_single_ctas(directive: str) -> None:
    device = simulator.Device("all")
    y = device.empty((3, 4), "u32")
    device.load(TEXT.replace("DIRECTIVE", directive))["k"].launch(3, 1, [y])
    assert (y.numpy() == np.array([[1, 0, cta, 3] for cta in range(3)])).all()


def test_clusters_of_several_ctas_are_refused() -> None:
    with pytest.raises(simulator.PTXError, match="clusters of several"):
        simulator.Device().load(TEXT.replace("DIRECTIVE", ".reqnctapercluster 2, 1, 1"))
