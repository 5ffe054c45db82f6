"""The cores that may be used are counted, not those that there are."""

import os
import threading

from assay_deploy.engines.machine import available_cores


def test_available_cores_are_those_of_the_affinity_mask() -> None:
    seen = []

    def pinned() -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # of this thread alone
        seen.append(available_cores())

    thread = threading.Thread(target=pinned)
    thread.start()
    thread.join()
    assert seen == [1]
