"""Where the work of a run is done: executors of pure tasks, of this machine or of a cluster.

work       a task as a value: a function of picklable values, known by a content key
local      threads of this machine
cluster    Dask distributed: every worker that has the same tools
admission  what a worker must have in common with the client, and how it is told from the others
streaming  tasks handed out, results kept as they come

A task never writes records: its result goes back to the client, which is the only writer of the store.
"""

from lrf_dse.farm.local import Local
from lrf_dse.farm.streaming import Farm, stream
from lrf_dse.farm.work import Shared, Work

__all__ = ["Farm", "Local", "Shared", "Work", "stream"]
