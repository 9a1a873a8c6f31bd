"""The served detector, as MLflow's models-from-code: this file and the ONNX file, nothing is pickled.

MLflow copies this file beside the ONNX file and executes the copy to load the model. So it defines the model
and names it with `set_model`; nothing imports it. In: `images`, each a file in base64 or pixels. Out: a table
with one row a face.
"""

from __future__ import annotations

import os
import threading

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from featherface.errors import DataError, OptionError
from featherface.inference.detector import FaceDetector
from featherface.inference.loading import open_backend
from featherface.structures import Detections
from featherface.tracking.packaging import FACE_COLUMNS, IMAGE_COLUMN, INPUT
from featherface.tracking.scoring_guard import guard_scoring_server, is_scoring_server, return_large_blocks
from featherface.tracking.served_images import list_images, read_served_image
from featherface.tracking.served_params import read_params


class ServedDetector(PythonModel):
    """Faces of a batch of images."""

    # MLflow checks the input against the named tensor of the signature. Its other check goes by type hints
    # and knows no arrays: it would warn at every load about a missing hint, and about ours.
    _skip_type_hint_validation = True

    def load_context(self, context: PythonModelContext) -> None:
        """Open the ONNX file that lies in the model."""
        self._backend = open_backend(context.artifacts["onnx"])
        # The server answers in more threads than there are cores. Decoded images are what takes memory, and
        # the network is no faster when it is asked oftener.
        self._turns = threading.Semaphore(os.cpu_count() or 1)
        if is_scoring_server():
            guard_scoring_server()
            return_large_blocks()

    def predict(self, context, model_input, params=None) -> pd.DataFrame:  # type: ignore[no-untyped-def]  # noqa: ARG002
        """Find the faces of every image.

        Args:
            context: not used after loading.
            model_input: a mapping; `images` is an array of texts (image files in base64, data URLs too), of
                bytes (image files), or of pixels: (B, H, W, 3) RGB from 0 to 255. Sizes may differ.
            params: as of `ServedParams`; they hold for this request. MLflow drops the names that it does not
                know before they come here, the scoring server refuses them (`scoring_guard`).

        Returns:
            One row a face, best first within an image: `image` (its place in the batch), the box in pixels,
            the score, the landmarks in pixels. An image without a face has no row.

        Raises:
            MlflowException: something that is no image, or an option outside its range; the server answers
                with 400.
        """
        try:
            # One for each request, on the network of all: another thread's options are never touched.
            detector = FaceDetector(self._backend, **read_params(params)._asdict())
            found = [
                self._detect(detector, item, f"{INPUT}[{place}]")
                for place, item in enumerate(list_images(model_input[INPUT]))
            ]
        except (DataError, OptionError) as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error
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

    def _detect(self, detector: FaceDetector, item: object, name: str) -> Detections:
        with self._turns:
            return detector.detect(read_served_image(item, name))


mlflow.models.set_model(ServedDetector())
