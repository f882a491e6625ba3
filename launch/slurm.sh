#!/bin/bash
# Training on several machines under Slurm, one launcher per machine and one process per GPU:
#   sbatch --nodes 2 --gpus-per-node 8 launch/slurm.sh --problem clutrr --output /shared/run [key=value ...]
#   sbatch ... launch/slurm.sh --problem clutrr --output /shared/run --resume      # goes on after the time limit
# The repository, its environment (.venv) and --output must be on a disk that all machines share.
#SBATCH --job-name reckoning
#SBATCH --ntasks-per-node 1
#SBATCH --cpus-per-task 16
#SBATCH --time 24:00:00
#SBATCH --signal INT@120
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?start this with sbatch, from the repository}"

gpus="${SLURM_GPUS_ON_NODE:?ask for GPUs: sbatch --gpus-per-node 8}"
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 40000))
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=100 # seconds that the launcher leaves for the last outer step, of the 120 above

# SLURM_NODEID is each machine's own, so the command that srun starts has to read it there.
srun --kill-on-bad-exit=1 bash -c '
    exec .venv/bin/accelerate launch --config_file engine_configs/accelerate/multi_node.yaml \
        --num_machines "$SLURM_NNODES" --num_processes "$(('"$gpus"' * SLURM_NNODES))" --machine_rank "$SLURM_NODEID" \
        --main_process_ip '"$first"' --main_process_port '"$port"' launch/train.py "$@"
' launch "$@"
