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


def launch(directive: str = "", **options: object) -> list[list[int]]:
    """Returns the registers of the CTAs of a launch of 6 x 4, x fastest."""
    device = simulator.Device("all")
    text = TEXT.replace("DIRECTIVE", directive).replace("mov.u32 %r5, %ctaid.x", PLACE)
    y = device.empty((24, 4), "u32")
    device.load(text)["k"].launch((6, 4), 1, [y], **options)  # pyright: ignore[reportArgumentType]
    return y.numpy().tolist()


PLACE = "mov.u32 %r5, %ctaid.y; mov.u32 %r6, %ctaid.x; mad.lo.u32 %r5, %r5, 6, %r6"


def test_clusters_are_boxes_of_the_grid() -> None:
    found = launch(cluster=(3, 2))
    wanted = [[6, y % 2 * 3 + x % 3, x // 3, 2] for y in range(4) for x in range(6)]
    assert found == wanted


def test_a_kernel_may_require_its_cluster() -> None:
    assert launch(".reqnctapercluster 2, 1, 1")[1] == [2, 1, 0, 3]


def test_a_grid_is_whole_clusters() -> None:
    with pytest.raises(simulator.LaunchError, match="multiple of cluster"):
        launch(cluster=4)


def test_a_required_cluster_is_not_overruled() -> None:
    with pytest.raises(simulator.LaunchError, match="reqnctapercluster"):
        launch(".reqnctapercluster 2, 1, 1", cluster=(1, 2))


def test_clusters_have_a_limit() -> None:
    with pytest.raises(simulator.LaunchError, match="more than 16"):
        launch(cluster=(6, 4))
