# pinnsweep and Ray in one image: for KubeRay (kind: kubernetes), for virtual machines (kind: vms) and for Ray clusters.
#
#   docker build -t pinnsweep .
#   docker build -t pinnsweep:cuda --build-arg TORCH=cu128 .
#
# TORCH is a folder of https://download.pytorch.org/whl: cpu, or a release of CUDA that the driver of the machines
# knows. RAY is a release of Ray, that of the clients (default: the newest).

ARG PYTHON=3.12
FROM python:${PYTHON}-slim-bookworm

# wget: KubeRay's probes. rsync: Ray's launcher copies files into the container. g++: torch.compile.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ rsync wget \
    && rm -rf /var/lib/apt/lists/*

# Before pinnsweep, whose changes then leave this layer of gigabytes alone.
ARG TORCH=cpu
RUN pip install --no-cache-dir torch --index-url https://download.pytorch.org/whl/${TORCH}

ARG RAY=
RUN pip install --no-cache-dir "ray[default,tune]${RAY:+==${RAY}}"

COPY pyproject.toml README.md LICENSE /src/
COPY cluster /src/cluster
COPY pinncore /src/pinncore
COPY sweeps /src/sweeps
RUN pip install --no-cache-dir "/src$([ "${TORCH}" = cpu ] || echo [gpu])"

# 1000 is also the first user of most machine images, whose files Ray's launcher gives to the container.
RUN useradd --create-home --uid 1000 pinnsweep
USER pinnsweep
WORKDIR /home/pinnsweep

# HOME: Ray's launcher looks here for where to mount its files. NVIDIA_*: its container runtime gives GPUs to images that
# ask for them. NUMBA_CACHE_DIR: compiled kernels, whoever the user is.
ENV HOME=/home/pinnsweep \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    NUMBA_CACHE_DIR=/tmp/numba \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0

# No entry point: KubeRay and Ray's launcher start a shell.
CMD ["pinnsweep", "--help"]
