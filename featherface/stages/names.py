"""The files through which stages meet; each is written by one stage and may be read by several."""

VALIDATION_REPORT = "artifacts/validate/report.json"
VALIDATION_PLOT = "artifacts/validate/dataset.png"
TEACHER_WEIGHTS = "artifacts/train_teacher/teacher.safetensors"
TEACHER_METRICS = "artifacts/train_teacher/metrics.json"
TEACHER_HISTORY = "artifacts/train_teacher/history.csv"
DISTILLED_WEIGHTS = "artifacts/distill/student.safetensors"
STUDENT_METRICS = "artifacts/distill/metrics.json"
STUDENT_HISTORY = "artifacts/distill/history.csv"
STUDENT_WEIGHTS = "artifacts/rescore/student.safetensors"
"""The finished student; the stages behind it and the registry know no other."""
RESCORE_METRICS = "artifacts/rescore/metrics.json"
RESCORE_HISTORY = "artifacts/rescore/history.csv"
EVALUATION_METRICS = "artifacts/evaluate/metrics.json"
EVALUATION_CURVE = "artifacts/evaluate/precision_recall.csv"
EVALUATION_PLOT = "artifacts/evaluate/precision_recall.png"
EVALUATION_SHEET = "artifacts/evaluate/sheet.jpg"
EVALUATION_PICTURES = {
    "precision_recall": EVALUATION_PLOT,
    "slices": "artifacts/evaluate/slices.png",
    "errors": "artifacts/evaluate/errors.png",
    "operating_points": "artifacts/evaluate/operating_points.png",
    "calibration": "artifacts/evaluate/calibration.png",
    "misses": "artifacts/evaluate/misses.jpg",
    "false_detections": "artifacts/evaluate/false_detections.jpg",
    "sheet": EVALUATION_SHEET,
}
EVALUATION_ANALYSIS = "artifacts/evaluate/analysis.json"
PREDICTIONS = "artifacts/evaluate/predictions"
ONNX_FILE = "artifacts/export/featherface.onnx"
EXPORT_METRICS = "artifacts/export/metrics.json"
REPORT_HTML = "artifacts/report/report.html"
MODEL_CARD = "artifacts/report/model_card.md"
REPORT_METRICS = "artifacts/report/summary.json"
