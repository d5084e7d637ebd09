//! One replica of one partition: the log joined with the replica machine.
