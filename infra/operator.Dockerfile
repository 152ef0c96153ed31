# What operators run beside the rooms: the scripts with every room's models, PostgreSQL's own tools (from a wheel), no server.
# From the root of the repository:  docker build -t saras-operator:latest -f infra/operator.Dockerfile .
ARG PYTHON=python:3.11-slim

FROM ${PYTHON} AS build
RUN python -m venv /opt/saras
ENV PATH=/opt/saras/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY scripts/requirements.lock /src/requirements.lock
RUN pip install --quiet --require-hashes -r /src/requirements.lock
COPY common/build-requirements.lock /src/build-requirements.lock
RUN python -m venv /opt/build && /opt/build/bin/pip install --quiet --require-hashes -r /src/build-requirements.lock
COPY . /src
RUN /opt/build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels \
        /src/common /src/api-gateway /src/user-service /src/portfolio-service /src/smallcase-service \
        /src/trade-executor /src/notification-service /src/analytics-service /src/market-data-service \
        /src/kite-simulator \
    && pip install --quiet --no-deps --no-index /wheels/*.whl \
    && pip uninstall --quiet --yes pip setuptools \
    && cp -r /src/scripts /opt/saras/scripts

FROM ${PYTHON}
LABEL org.opencontainers.image.title="operator" org.opencontainers.image.licenses="MIT"
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin saras \
    && mkdir /data && chown saras:saras /data && chmod 700 /data
COPY --from=build /opt/saras /opt/saras
ENV PATH=/opt/saras/bin:$PATH PYTHONPATH=/opt/saras PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["python", "-m"]
