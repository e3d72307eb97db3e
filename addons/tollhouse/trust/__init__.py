"""What workloads trust: the CA (`ca`), its leaves by host (`leaf`), and the roots to hand out (`bundle`)."""
