"""The functions that a variant may use on traced values."""

from .expression import Value, call, combine, where

__all__ = [
    "cos",
    "exp",
    "exp2",
    "floor",
    "log",
    "log2",
    "maximum",
    "minimum",
    "rsqrt",
    "sigmoid",
    "sin",
    "sqrt",
    "tanh",
    "where",
]


def exp(x: object) -> Value:
    """Returns the exponential, with a relative error of about 2^-22 for small arguments."""
    return call("exp", x)


def exp2(x: object) -> Value:
    """Returns the power of two, with a relative error of 2^-22."""
    return call("exp2", x)


def log(x: object) -> Value:
    """Returns the natural logarithm."""
    return call("log", x)


def log2(x: object) -> Value:
    """Returns the logarithm of base 2."""
    return call("log2", x)


def sqrt(x: object) -> Value:
    """Returns the square root."""
    return call("sqrt", x)


def rsqrt(x: object) -> Value:
    """Returns the reciprocal of the square root."""
    return call("rsqrt", x)


def tanh(x: object) -> Value:
    """Returns the hyperbolic tangent, with an absolute error of about 1e-6."""
    return call("tanh", x)


def sin(x: object) -> Value:
    """Returns the sine, with an absolute error of about 1e-6 up to |x| = 2^16."""
    return call("sin", x)


def cos(x: object) -> Value:
    """Returns the cosine, with an absolute error of about 1e-6 up to |x| = 2^16."""
    return call("cos", x)


def sigmoid(x: object) -> Value:
    """Returns `1 / (1 + exp(-x))`."""
    return call("sigmoid", x)


def floor(x: object) -> Value:
    """Returns the largest whole number that is not above x, as f32."""
    return call("floor", x)


def maximum(a: object, b: object) -> Value:
    """Returns the greater of two numbers."""
    return combine("maximum", a, b)


def minimum(a: object, b: object) -> Value:
    """Returns the smaller of two numbers."""
    return combine("minimum", a, b)
