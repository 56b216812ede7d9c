"""Shared disks and who may write to them: SCSI commands, initiators, and arbitration by persistent reservations."""
