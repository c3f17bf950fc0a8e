# A node, a server or a gateway; each is a target. `make services` (tools/services.py) fills the context and says which
# base: one with Python and a C library. Nothing else is needed, no shell, no pip and no network.
ARG BASE_IMAGE=python:3.11-slim

# What is installed and ours, tried once: an image that could not even say its version is never made.
FROM ${BASE_IMAGE} AS parts
ARG PROGRAM
COPY site/ /opt/site/
COPY vantage6/ /opt/vantage6/
ENV PYTHONPATH=/opt/vantage6:/opt/site PYTHONDONTWRITEBYTECODE=1
RUN ["python3", "-c", "import importlib, os; importlib.import_module(os.environ['PROGRAM'])"]

FROM ${BASE_IMAGE} AS service
COPY --from=parts /opt /opt
# Whoever runs it can write to a volume that is mounted there.
COPY data/ /
# The page that the health check asks is inside the container only; publish another address to show it to Prometheus.
ENV PYTHONPATH=/opt/vantage6:/opt/site PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 VANTAGE6_MONITORING=127.0.0.1:9100
WORKDIR /
USER 65534:65534
HEALTHCHECK --interval=30s --timeout=15s --start-period=60s --retries=3 \
  CMD ["python3", "-m", "vantage6.common.monitoring"]

FROM service AS node
ENTRYPOINT ["python3", "-m", "vantage6.node.cli"]

FROM service AS server
ENV XDG_CONFIG_DIRS=/mnt/config XDG_DATA_DIRS=/mnt/data
VOLUME ["/mnt/data"]
EXPOSE 5001
ENTRYPOINT ["python3", "-m", "vantage6.server.cli"]
CMD ["start", "--foreground", "--config", "/mnt/config/server.yaml"]

FROM service AS gateway
EXPOSE 8443
ENTRYPOINT ["python3", "-m", "vantage6.gateway"]
CMD ["--config", "/mnt/config/gateway.yaml"]
