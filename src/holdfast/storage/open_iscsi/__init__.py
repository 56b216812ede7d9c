"""iSCSI sessions of the kernel, through open-iscsi."""
