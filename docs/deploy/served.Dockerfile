# The served model (docs/serving.md) and what it needs: no torch, no checkout.
#   mlflow artifacts download -u models:/featherface@champion -d served
#   docker build -f docs/deploy/served.Dockerfile -t featherface-served .
#   docker run --rm --read-only --tmpfs /tmp --memory 3g -p 127.0.0.1:5001:5001 featherface-served
FROM python:3.11-slim
COPY served/requirements.txt /requirements.txt
RUN pip install --no-cache-dir -r /requirements.txt && useradd --create-home featherface
COPY served /model
USER featherface
ENV MLFLOW_DISABLE_TELEMETRY=true ORT_DISABLE_TELEMETRY=1 PYTHONDONTWRITEBYTECODE=1
EXPOSE 5001
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5001/ping', timeout=5)"]
CMD ["mlflow", "models", "serve", "-m", "/model", "--env-manager", "local", "--host", "0.0.0.0", "--port", "5001"]
