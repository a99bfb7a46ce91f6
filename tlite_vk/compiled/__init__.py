"""Compiled models in files, `model.tlvk`: programs, SPIR-V, packed weights, tokenizer. See docs/compiled-programs.md.

archive: the container, a zip with every byte checked. program_json: Programs as JSON. variants: for which devices.
writer and sections: from an ONNX file. reader: to a device. store: the same format as a cache of warm starts.
"""
