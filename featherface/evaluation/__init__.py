"""Average precision by the WIDER FACE and COCO protocols, plots and sheets."""
