# Images that run a bundle: targets `cpu` and `gpu`, no torch, a user without rights, a file system that may be read-only.
# BASE is any Debian or Ubuntu with Python 3.11 to 3.13 and its venv module.
ARG BASE=docker.io/library/python:3.12-slim-bookworm

# Pinned build tools, and an environment that has no pip of its own.
FROM ${BASE} AS tools
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY requirements/build.txt ./
RUN python3 -m venv tools && tools/bin/pip install --require-hashes -r build.txt \
    && python3 -m venv --without-pip /opt/assay

FROM tools AS wheel
COPY deploy deploy
RUN tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir wheels ./deploy

FROM tools AS install-cpu
COPY requirements/deploy-cpu.txt ./
RUN tools/bin/pip --python /opt/assay/bin/python install --no-deps --require-hashes -r deploy-cpu.txt
COPY --from=wheel /build/wheels wheels
RUN tools/bin/pip --python /opt/assay/bin/python install --no-deps wheels/*.whl

FROM tools AS install-gpu
COPY requirements/deploy-gpu.txt ./
RUN tools/bin/pip --python /opt/assay/bin/python install --no-deps --require-hashes -r deploy-gpu.txt
COPY --from=wheel /build/wheels wheels
RUN tools/bin/pip --python /opt/assay/bin/python install --no-deps wheels/*.whl

FROM ${BASE} AS runtime
ARG BASE
ARG VERSION=
LABEL org.opencontainers.image.title="assay-deploy" \
      org.opencontainers.image.description="Runs a proven bundle with ONNX Runtime" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.base.name="${BASE}"
# The official builds of ONNX Runtime report to their maker unless told not to.
ENV PATH=/opt/assay/bin:${PATH} PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp ORT_DISABLE_TELEMETRY=1
# A number, so that Kubernetes can see that it is not root; it owns nothing in the image.
USER 10001:10001
WORKDIR /
# A container is healthy when the bundle mounted at /bundle still gives the outputs that it was proven with.
HEALTHCHECK --interval=5m --timeout=1m CMD ["assay-deploy", "doctor", "/bundle"]
ENTRYPOINT ["assay-deploy"]
CMD ["doctor", "/bundle"]

FROM runtime AS gpu
# What `--gpus all` hands in: the driver's compute libraries and nvidia-smi. CUDA and cuDNN are in the image.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=install-gpu /opt/assay /opt/assay

FROM runtime AS cpu
COPY --from=install-cpu /opt/assay /opt/assay
