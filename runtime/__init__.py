"""The lean runtime: media -> chunks -> features -> engines -> scorer. Nothing here imports torch."""
