"""Withhold, resume, stop: the rows of the table, one module per topic.

Stops are sticky: every result from the first dose on counts. Clocks start on the first failing result of an
episode (day 0); a limit is broken only by a still-failing result dated later than it.
"""
