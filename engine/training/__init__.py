"""The worker process: training loop, optimizers, checkpoints, telemetry. No dashboard."""

import os

# CUDA counts GPUs from the fastest to the slowest by default, nvidia-smi and the dashboard by their place on the bus:
# cuda:1 is to be the same GPU in both. CUDA reads this once, so it is set before anything here can speak to it.
os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
