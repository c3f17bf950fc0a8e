# Base of algorithm images: a Python with what algorithms import. `make images` fills the context and says which base.
# Nothing here needs a shell, pip or the network, so the base may be an image without a distribution.
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}
COPY site/ /opt/site/
COPY vantage6/ /opt/vantage6/
# Code that is not compiled ahead costs each run 0.3 s; a run cannot write beside the code, so it would not even keep it.
ENV PYTHONPATH=/app:/opt/vantage6:/opt/site PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
USER 65534:65534
ENTRYPOINT ["python3", "-m", "vantage6.algorithm.entrypoint"]
