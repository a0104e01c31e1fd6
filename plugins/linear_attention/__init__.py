"""Matrix memories: what is written is an outer product, what is read a product with a query."""

from ssir.registry import Registry


def register(registry: Registry) -> None:
    from ssir.plugins.linear_attention.forms import FORMS
    from ssir.plugins.linear_attention.joint import Joint

    for form in (*FORMS, Joint()):
        registry.add("form", form.name, form)
