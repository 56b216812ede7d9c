"""SCSI on paper: commands, replies and sense data as bytes and as values. Nothing in here sends anything."""
