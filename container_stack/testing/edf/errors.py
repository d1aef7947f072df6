# SPDX-License-Identifier: Apache-2.0
"""Errors as the array words them."""


class ApiError(Exception):
    """A refusal.

    :param status: of HTTP.
    :param name: as clients look for it.
    """

    def __init__(self, status: int, name: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.name = name
        self.message = message


def auth_failed(message: str) -> ApiError:
    return ApiError(401, "AuthFailedError", message)


def invalid(message: str) -> ApiError:
    return ApiError(400, "InvalidRequestError", message)


def unprocessable(message: str) -> ApiError:
    return ApiError(422, "ValidationFailedError", message)


def not_found(path: str) -> ApiError:
    return ApiError(404, "NotFoundError", f"No data at {path}")


def conflict(message: str) -> ApiError:
    return ApiError(409, "ConflictError", message)


def full() -> ApiError:
    """Return the refusal of an array that is full; clients go by its words."""
    return ApiError(422, "ValidationFailedError", "Insufficient capacity: no space left")
