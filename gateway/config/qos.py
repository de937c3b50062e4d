"""The part of the site file about quality of service. So far: which class a request is of."""

from pydantic import Field, model_validator

from gateway.config.fields import ClassName, Model
from gateway.config.match import Match
from gateway.config.problem import Fault


class QosClass(Model):
    """A class of requests."""

    name: ClassName = Field(description="Name, for routes to match and for the log.")
    match: Match = Field(default_factory=Match, description="Which requests, as in routes; left out: all.")

    @model_validator(mode="after")
    def _no_circle(self) -> "QosClass":
        if self.match.class_:
            raise Fault("no request has a class yet when classes are given", "match", "class", key=True)
        return self


class Qos(Model):
    """How requests are told apart, and some day who goes first."""

    classes: tuple[QosClass, ...] = Field((), description="Before the routes, the first that matches gives its name.")
