"""What is compiled; all else is in pyproject.toml."""

from setuptools import Extension, setup

INSTRUCTIONS = ["avx512f", "avx512bw", "avx512bf16", "amx-tile", "amx-bf16"]
"""All that the kernel has forms for; at run time it takes what the core knows."""

kernel = Extension(
    "m2m_model._kernel",
    ["m2m_model/kernel.cpp"],
    depends=[f"m2m_model/kernel_{part}.h" for part in ("tiles", "product", "gradients")],
    language="c++",
    extra_compile_args=["-O3", "-std=c++17", *(f"-m{name}" for name in INSTRUCTIONS)],
    extra_link_args=["-pthread"],
    optional=True,  # where it cannot be built, PyTorch does the same
)

setup(ext_modules=[kernel])
