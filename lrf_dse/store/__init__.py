"""The records of a run: a folder that is recognised as one, and what was measured in it.

records  Store: keys, values, one transaction a record
rows     the tables of the file, and what makes a row whole
folder   which folder is a run's, and may be written into
repair   a damaged file becomes a sound one with the rows that are whole
"""

from lrf_dse.store.folder import MARKER, is_run_folder
from lrf_dse.store.records import AGAIN, Record, Store
from lrf_dse.store.rows import FILE_NAME

__all__ = ["AGAIN", "FILE_NAME", "MARKER", "Record", "Store", "is_run_folder"]
