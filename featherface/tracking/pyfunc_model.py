"""The served detector, as MLflow's models-from-code: this file and the ONNX file, nothing is pickled.

MLflow copies this file beside the ONNX file and executes the copy to load the model. So it defines the model
and names it with `set_model`; nothing imports it. In: a batch of RGB images of one size, the tensor `images`.
Out: a table with one row a face.
"""

from __future__ import annotations

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from featherface.inference.detector import FaceDetector
from featherface.tracking.packaging import FACE_COLUMNS, IMAGE_COLUMN, INPUT


class ServedDetector(PythonModel):
    """Faces of a batch of images."""

    # MLflow checks the input against the named tensor of the signature. Its other check goes by type hints
    # and knows no arrays: it would warn at every load about a missing hint, and about ours.
    _skip_type_hint_validation = True

    def load_context(self, context: PythonModelContext) -> None:
        """Open the ONNX file that lies in the model."""
        self._detector = FaceDetector(model=context.artifacts["onnx"])

    def predict(self, context, model_input, params=None) -> pd.DataFrame:  # type: ignore[no-untyped-def]  # noqa: ARG002
        """Find the faces of every image.

        Args:
            context: not used after loading.
            model_input: a mapping; `images` is a (B, H, W, 3) uint8 RGB array.
            params: none exist.

        Returns:
            One row a face, best first within an image: `image` (its place in the batch), the box in pixels,
            the score, the landmarks in pixels. An image without a face has no row.
        """
        found = [self._detector.detect(image) for image in np.asarray(model_input[INPUT])]
        numbers = [
            np.concatenate(
                [faces.boxes_xyxy, faces.scores[:, None], faces.landmarks_xy.reshape(-1, 10)], axis=1
            )  # (N, 15)
            for faces in found
        ]
        # The empty part gives a batch without images or faces its columns and their type.
        empty = np.empty((0, len(FACE_COLUMNS)), np.float32)
        table = pd.DataFrame(np.concatenate([empty, *numbers]), columns=list(FACE_COLUMNS))
        counts = [len(faces) for faces in found]
        table.insert(0, IMAGE_COLUMN, np.repeat(np.arange(len(found), dtype=np.int32), counts))
        return table


mlflow.models.set_model(ServedDetector())
