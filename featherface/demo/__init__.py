"""The detector as a web page: `folder` writes it, `server` shows it on this machine.

The page itself is in `page/`: plain HTML, CSS and ES modules. It computes in the browser, with ONNX Runtime's
WebAssembly build (`runtime`), what `inference` computes in Python.
"""
