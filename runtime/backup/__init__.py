"""Backups of a shop: everything that cannot be computed again, as of one moment.

A backup is a folder. `events.jsonl.gz` is an archive of the log's events (`runtime.archive`):
either all of them, or those since an earlier backup, which is then needed for a restore as well.
`log.dump` has the rest of the log's tables, the state of consumers and the work queues, always
whole. `keys.dump` has the persons' keys and the program's secrets, in a file of its own: without it
nobody can read personal data, and forgetting a person means destroying their key in every copy of
it. They are wrapped by the master key, which is in the backup, as `master.key`, only if it is in
HOME. `images.tar` has the images, if they are files of this instance: all, or the new ones. More
files come from HOME (`runtime.backup.of_home`). `manifest.json` lists all files. Read models are
not backed up; they are rebuilt from the events.
"""
