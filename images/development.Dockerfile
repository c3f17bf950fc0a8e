# devcon: a node for those who work on it (`vnode start --develop`). SOURCE, a clone of the project, is mounted at
# /source and comes before what is installed; the node begins anew whenever a file of it changes.
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE} AS devcon
COPY site/ /opt/site/
COPY vantage6/ /opt/vantage6/
COPY data/ /
ENV PYTHONPATH=/source/protos/gen:/source/common:/source/node:/opt/vantage6:/opt/site \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 VANTAGE6_MONITORING=127.0.0.1:9100
WORKDIR /
USER 65534:65534
HEALTHCHECK --interval=30s --timeout=15s --start-period=60s --retries=3 \
  CMD ["python3", "-m", "vantage6.common.monitoring"]
ENTRYPOINT ["python3", "-m", "vantage6.node.develop"]
