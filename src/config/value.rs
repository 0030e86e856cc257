//! The configuration once every key has been checked and defaults are in their places, before it is given meaning.

use std::time::Duration;

use super::problem::Place;

/// A checked value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Flag(bool),
    Count(u64),
    Ratio(f64),
    Text(String),
    /// With the text it was written as, so that it is printed as it was typed.
    Span(Duration, String),
    List(Vec<Item>),
    Map(Vec<Field>),
    /// Wrong, and told so.
    Broken,
}

/// One item of a list.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// One key with its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    pub(super) name: String,
    /// `None`: not written, the default.
    pub(super) place: Option<Place>,
    /// The value is secret.
    pub(super) secret: bool,
    pub(super) value: Value,
}

impl Value {
    /// The fields of a mapping; none of anything else.
    pub(super) fn fields(&self) -> &[Field] {
        if let Self::Map(fields) = self { fields } else { &[] }
    }

    /// The items of a list; none of anything else.
    pub(super) fn items(&self) -> &[Item] {
        if let Self::List(items) = self { items } else { &[] }
    }

    /// The field at a path of names.
    pub(super) fn field(&self, path: &[&str]) -> Option<&Field> {
        let (first, rest) = path.split_first()?;
        let field = self.fields().iter().find(|field| field.name == *first)?;
        if rest.is_empty() { Some(field) } else { field.value.field(rest) }
    }

    /// Where the field at a path of names was written, or the nearest one around it.
    pub(super) fn place(&self, path: &[String]) -> Place {
        let (mut value, mut place) = (self, Place::START);
        for name in path {
            let Some(field) = value.field(&[name]) else { break };
            place = field.place.unwrap_or(place);
            value = &field.value;
        }
        place
    }

    /// The value at a path of names.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Self> {
        self.field(path).map(|field| &field.value)
    }

    pub(super) fn text(&self, path: &[&str]) -> Option<&str> {
        if let Some(Self::Text(text)) = self.at(path) { Some(text) } else { None }
    }

    pub(super) fn flag(&self, path: &[&str]) -> Option<bool> {
        if let Some(Self::Flag(flag)) = self.at(path) { Some(*flag) } else { None }
    }

    pub(super) fn count(&self, path: &[&str]) -> Option<u64> {
        if let Some(Self::Count(count)) = self.at(path) { Some(*count) } else { None }
    }

    pub(super) fn span(&self, path: &[&str]) -> Option<Duration> {
        if let Some(Self::Span(span, _)) = self.at(path) { Some(*span) } else { None }
    }

    pub(super) fn ratio(&self, path: &[&str]) -> Option<f64> {
        if let Some(Self::Ratio(ratio)) = self.at(path) { Some(*ratio) } else { None }
    }

    /// The texts of a list, `None` where there is no such list.
    pub(super) fn texts(&self, path: &[&str]) -> Option<Vec<String>> {
        let Some(Self::List(items)) = self.at(path) else { return None };
        Some(items.iter().filter_map(|item| if let Self::Text(text) = &item.value { Some(text.clone()) } else { None }).collect())
    }
}
