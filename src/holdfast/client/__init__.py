"""The typed client of holdfastd: what can be asked (`requests`), and who asks it (`blocking`, `local`)."""
