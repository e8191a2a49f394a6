# One image for every process of Ludoteca; the command says which: api, projector, worker, provider, relay, run.
FROM python:3.11-slim-bookworm AS build
WORKDIR /source
COPY . .
RUN python -m venv /opt/ludoteca && /opt/ludoteca/bin/pip install --no-cache-dir '.[s3,kafka,traces]'

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home ludoteca && install -d -o ludoteca -g ludoteca -m 0700 /data
COPY --from=build /opt/ludoteca /opt/ludoteca
ENV PATH=/opt/ludoteca/bin:$PATH LUDOTECA_HOME=/data LUDOTECA_HOST=0.0.0.0 PYTHONUNBUFFERED=1
# by number, so that Kubernetes sees that it is not root
USER 10001
VOLUME /data
EXPOSE 8000
ENTRYPOINT ["ludoteca"]
CMD ["run"]
