"""The run browser: records, gate reports, studies and report folders found under a folder, and a metric over time."""
