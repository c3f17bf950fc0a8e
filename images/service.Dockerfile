# A node, a server or a gateway. `make images` (tools/images.py --services) fills the context and says which base:
# one with Python and a C library, nothing else is needed, no shell, no pip and no network.
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}
COPY site/ /opt/site/
COPY vantage6/ /opt/vantage6/
ENV PYTHONPATH=/opt/vantage6:/opt/site PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /
