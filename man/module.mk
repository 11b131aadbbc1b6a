# Manual pages are found by name (man/*.[1-8]); see mk/install.mk and scripts/lint-man.sh.
