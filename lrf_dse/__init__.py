"""lrf-dse: explore tensor-train factorisations of a network's fully connected layers for one RISC-V chip."""
