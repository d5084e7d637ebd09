# A coordinator and nothing else: `make images` builds the static binary and lays it beside this file's context.
FROM scratch
COPY --chown=65532:65532 data /var/lib/ottla
COPY ottla-coordinator /ottla-coordinator
USER 65532:65532
ENV KAFKA_LOG_DIRS=/var/lib/ottla \
    KAFKA_PROCESS_ROLES=controller \
    KAFKA_CONTROLLER_LISTENER_NAMES=CONTROLLER \
    KAFKA_LISTENERS=CONTROLLER://0.0.0.0:9093 \
    KAFKA_OTTLA_HTTP_LISTENER=0.0.0.0:9095
VOLUME /var/lib/ottla
EXPOSE 9093 9095
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=2s --timeout=3s --start-period=60s --retries=5 CMD ["/ottla-coordinator", "health"]
ENTRYPOINT ["/ottla-coordinator"]
