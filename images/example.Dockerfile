# One algorithm: a Python package on top of the base; CMD, the package's name, is set by the build.
ARG BASE_IMAGE=vantage6/algorithm-base:dev
FROM ${BASE_IMAGE}
COPY app/ /app/
