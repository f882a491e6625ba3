#!/bin/bash
# Training with torchrun in accelerate's place, for clusters that start jobs that way; one process per GPU, or as many as
# PROCESSES says. Options of torchrun itself (machines, rendezvous) go into TORCHRUN:
#   launch/torchrun.sh --problem clutrr --output runs/here
#   TORCHRUN="--nnodes 2 --node-rank 0 --master-addr 10.0.0.1 --master-port 29500" launch/torchrun.sh --problem clutrr ...
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python
[ -x "$python" ] || python=python

# shellcheck disable=SC2086 # TORCHRUN holds several words
exec "$python" -m torch.distributed.run --nproc-per-node "${PROCESSES:-auto}" ${TORCHRUN:---standalone} launch/train.py "$@"
