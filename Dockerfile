# Build with BuildKit (the default of docker build) or buildah:
#
#   docker build --build-arg VERSION=1.2.3 --build-arg REVISION=$(git rev-parse HEAD) -t lamplighter .
#
# The image holds one static binary, the CA bundle and a non-root user: no shell,
# no package manager. Settings come in as LAMPLIGHTER_… variables or a mounted file.

FROM golang:1.26-bookworm AS build
WORKDIR /src

# Modules change seldom: downloaded in a layer of their own, sources do not reload them.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download

COPY . .
ARG VERSION=dev
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -buildvcs=false \
      -ldflags "-s -w -X main.version=${VERSION}" -o /out/lamplighter ./cmd/lamplighter

FROM gcr.io/distroless/static-debian12:nonroot

ARG VERSION=dev
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="Lamplighter" \
      org.opencontainers.image.description="Tells every partner app when a customer's lights go on or off" \
      org.opencontainers.image.source="https://github.com/lamplighter/lamplighter" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"

COPY --from=build /out/lamplighter /usr/local/bin/lamplighter

# Loopback, the default of the binary, could not be reached from outside the container.
ENV LAMPLIGHTER_LISTEN=:8080 \
    LAMPLIGHTER_OPS_LISTEN=:9464
EXPOSE 8080 9464

# The numeric id of distroless' nonroot: Kubernetes' runAsNonRoot cannot check a name.
USER 65532:65532
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
  CMD ["/usr/local/bin/lamplighter", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/lamplighter"]
CMD ["serve"]
