# The tests in a container, for Compose's profile `test`: everything of the repository with the tools of development.
ARG PYTHON=python:3.11-slim
FROM ${PYTHON}
RUN python -m venv /opt/saras && useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin saras
ENV PATH=/opt/saras/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements.lock /src/requirements.lock
RUN pip install --quiet --require-hashes -r /src/requirements.lock
COPY . /src
WORKDIR /src
RUN pip install --quiet --no-deps --no-build-isolation \
        -e common -e api-gateway -e user-service -e portfolio-service -e smallcase-service -e trade-executor \
        -e notification-service -e analytics-service -e market-data-service -e kite-simulator
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
ENTRYPOINT ["python", "-m", "tests.compose"]
