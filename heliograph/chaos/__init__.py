"""`heliograph chaos`: makes faults in a scratch deployment, and proves that nothing was lost."""
