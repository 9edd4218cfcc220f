"""Pictures of feature maps and kernels: values to codes, codes to one image, the image to a figure."""
