"""One run trained by several processes, one a device, on one machine or several: started by torchrun, or its agent.

Every rank goes through the same loop (`engine.training.trainer`) at the same time; rank 0 alone keeps the journal
and the checkpoints. A run with one device knows nothing of this.
"""
