"""LUNs by iSCSI in user space (libiscsi), for hosts whose kernel has no SCSI and for asking a target from any host."""
