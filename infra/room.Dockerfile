# One recipe for the images of all rooms. `python -m scripts.dockerfiles` writes it into every room's folder with the
# room's package filled in; tests compare them.
ARG PYTHON=python:3.11-slim

FROM ${PYTHON} AS build
RUN python -m venv /opt/saras
ENV PATH=/opt/saras/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# What rooms are made of changes more often than what they stand on: the libraries are a layer of their own.
COPY requirements.lock /src/requirements.lock
RUN pip install --quiet --require-hashes -r /src/requirements.lock
COPY --from=saras-common . /src/common
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --quiet --require-hashes -r /src/common/build-requirements.lock
COPY . /src/room
RUN /opt/build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /src/wheels /src/common /src/room \
    && pip install --quiet --no-deps --no-index /src/wheels/*.whl \
    && pip uninstall --quiet --yes pip setuptools

FROM ${PYTHON}
LABEL org.opencontainers.image.title="@ROOM@" org.opencontainers.image.licenses="MIT"
@LIBRARIES@
# A number, so that Kubernetes can see that it is not root; nothing in the image belongs to it but the folder for data.
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin saras \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/saras
COPY --from=build /opt/saras /opt/saras
ENV PATH=/opt/saras/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 @PREFIX@HOST=0.0.0.0
WORKDIR /tmp
USER 10001:10001
EXPOSE @PORT@
HEALTHCHECK --interval=15s --timeout=5s --start-period=180s --start-interval=2s --retries=4 CMD ["python", "-m", "common.probe", "@PORT@/@HEALTH@"]
ENTRYPOINT ["python", "-m", "@PACKAGE@"]
CMD ["api"]
