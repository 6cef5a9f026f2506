# Crier's image: controller, speaker and the `crier` command.  docker build --build-arg SOURCE_DATE_EPOCH=... -t crier:0.1.0 .
# All of the work is done by hack/rootfs.py, which the tests run, too.

FROM debian:bookworm-slim AS build
RUN apt-get -q update \
    && apt-get -q install -y --no-install-recommends ca-certificates python3 python3-pip python3-setuptools
COPY . /src
ARG SOURCE_DATE_EPOCH=0
RUN python3 /src/hack/rootfs.py /rootfs

FROM scratch
COPY --from=build /rootfs /
# The controller needs no more; the speaker's manifest says that it is root, with a single capability.
USER 65534:65534
CMD ["/usr/bin/crier", "--help"]
