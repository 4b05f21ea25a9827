"""Dependencies of grids that are launched while the one before them still runs."""

from xdsl.irdl import IRDLOperation, ParsePropInAttrDict, irdl_op_definition, prop_def

from .attributes import GridDepAction, GridDepActionAttr


@irdl_op_definition
class GridDepControlOp(IRDLOperation):
    """
    Waits for the grids before, or lets those behind be launched (PTX ISA, "griddepcontrol").

    `wait` blocks until all grids that this one depends on have ended, and their writes are seen.
    `launch_dependents` by all CTAs lets the next grid start, which must wait itself. Both do
    nothing where the launch has no such dependency. Needs sm_90.

    ```mlir
    nvvm.griddepcontrol wait
    ```
    """

    name = "nvvm.griddepcontrol"

    kind = prop_def(GridDepActionAttr)

    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$kind attr-dict"

    def __init__(self, kind: GridDepAction):
        super().__init__(properties={"kind": GridDepActionAttr(kind)})
