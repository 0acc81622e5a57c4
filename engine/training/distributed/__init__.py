"""One run trained by several processes, one a device, on one machine or several: started by torchrun, or its agent.

Every rank goes through the same loop (`engine.training.trainer`) at the same time; rank 0 alone keeps the journal
and the checkpoints. A run with one device knows nothing of this.
"""

import signal

LEFT_ALONE = 3
"""Exit code of a rank that could not go on because of another one, which is to blame."""
SIGNALS = {signal.SIGTERM, signal.SIGINT}
"""Those that mean Stop after this batch. The agent starts ranks with them blocked, so that none comes too early."""
