"""`densevit predict` in a checkout: python demo/image_demo.py photo.jpg scenes."""

from densevit.cli import run_command

if __name__ == "__main__":
    run_command("predict")
