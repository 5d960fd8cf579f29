//! An upload: the parts of a form, the image among them into the object store as it comes.

use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::{HttpRequest, web};
use futures_util::StreamExt;

use super::multipart::{self, Event, Malformed, Reader};
use crate::api::State;
use crate::api::error::{ApiError, Fault};
use crate::archive::{Stored, Upload};
use crate::domain::command::FW_VERSION_LEN;
use crate::store::{FirmwareFilter, Page};

/// Longest text of the form.
const MAX_TEXT_BYTES: usize = 256;
/// What a form is larger than its image, at most.
const FORM_BYTES: u64 = 64 * 1024;
/// Characters of a type of device, as in the registry.
const TYPE_CHARS: std::ops::RangeInclusive<usize> = 1..=64;

/// An image that is stored, and what it is.
pub struct Taken {
    pub stored: Stored,
    pub version: String,
    pub device_type: String,
}

/// There is one already.
pub fn exists() -> ApiError {
    let text = "there is a firmware of this version for this device type; versions are never replaced";
    ApiError::Conflict(text.to_owned())
}

/// Takes an upload. Whatever ends it early leaves nothing.
pub async fn take(state: &State, request: &HttpRequest, mut payload: web::Payload) -> Result<Taken, ApiError> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let boundary = header(CONTENT_TYPE).and_then(multipart::boundary).ok_or(ApiError::FormNeeded)?;
    if header(CONTENT_ENCODING).is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        return Err(ApiError::FormNeeded);
    }
    let max_bytes = state.options.max_firmware_bytes;
    let limit_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    let announced = header(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if announced.is_some_and(|length| length > max_bytes.saturating_add(FORM_BYTES)) {
        return Err(ApiError::TooLarge { limit_bytes });
    }
    let mut reader = Reader::new(&boundary);
    let mut form = Form {
        state,
        max_bytes,
        limit_bytes,
        field: Field::None,
        texts: [None, None],
        image: Image::Missing,
        faults: Vec::new(),
    };
    let patience = state.options.body_timeout;
    while let Some(chunk) = tokio::time::timeout(patience, payload.next()).await.map_err(|_| ApiError::BodyTooSlow)? {
        let chunk = chunk.map_err(|_| ApiError::Malformed("the body could not be read"))?;
        for event in reader.push(&chunk).map_err(|Malformed(why)| ApiError::Malformed(why))? {
            form.take(event).await?;
        }
    }
    if !reader.is_complete() {
        return Err(ApiError::Malformed("the form ends early"));
    }
    form.finish()
}

/// Where the content of a part goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Field {
    None,
    Text(usize),
    File,
    Unknown,
}

const TEXTS: [&str; 2] = ["version", "device_type"];

enum Image {
    Missing,
    Coming(Box<Upload>),
    Stored(Stored),
}

struct Form<'a> {
    state: &'a State,
    max_bytes: u64,
    limit_bytes: usize,
    field: Field,
    texts: [Option<Vec<u8>>; 2],
    image: Image,
    faults: Vec<Fault>,
}

impl Form<'_> {
    async fn take(&mut self, event: Event) -> Result<(), ApiError> {
        match (event, self.field) {
            (Event::Part(name), _) => self.begin(&name).await?,
            (Event::Data(bytes), Field::Text(index)) => {
                let text = self.texts[index].get_or_insert_default();
                if text.len() <= MAX_TEXT_BYTES {
                    text.extend_from_slice(&bytes);
                }
            }
            (Event::Data(bytes), Field::File) => {
                let Image::Coming(upload) = &mut self.image else { return Ok(()) };
                if upload.size_bytes() + bytes.len() as u64 > self.max_bytes {
                    return Err(ApiError::TooLarge { limit_bytes: self.limit_bytes });
                }
                upload.write(&bytes).await?;
            }
            (Event::End, Field::File) => {
                if let Image::Coming(upload) = std::mem::replace(&mut self.image, Image::Missing) {
                    if upload.size_bytes() == 0 {
                        self.faults.push(Fault::new("file", "is empty"));
                    }
                    // Nothing that is refused is stored first.
                    if self.faults.is_empty() {
                        self.image = Image::Stored(upload.finish().await?);
                    }
                }
                self.field = Field::None;
            }
            (Event::End, _) => self.field = Field::None,
            (Event::Data(_), Field::None | Field::Unknown) => {}
        }
        Ok(())
    }

    async fn begin(&mut self, name: &str) -> Result<(), ApiError> {
        self.field = Field::Unknown;
        if let Some(index) = TEXTS.iter().position(|text| *text == name) {
            match self.texts[index].is_some() {
                true => self.faults.push(Fault::new(name, "is given twice")),
                false => {
                    self.texts[index] = Some(Vec::new());
                    self.field = Field::Text(index);
                }
            }
        } else if name == "file" {
            if !matches!(self.image, Image::Missing) || self.faults.iter().any(|fault| fault.field == "file") {
                self.faults.push(Fault::new(name, "is given twice"));
                return Ok(());
            }
            self.refuse_known().await?;
            self.image = Image::Coming(Box::new(self.state.services.campaigns.images.begin().await?));
            self.field = Field::File;
        } else {
            let known: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
            self.faults.push(Fault::new(known, "is not a known field; known: file, version, device_type"));
        }
        Ok(())
    }

    /// Where version and type come first, an image that is there already is refused before it has come.
    async fn refuse_known(&self) -> Result<(), ApiError> {
        let [Some(version), Some(device_type)] = self.texts.each_ref().map(|text| text_of(text.as_deref())) else {
            return Ok(());
        };
        let filter = FirmwareFilter { device_type: Some(device_type), version: Some(version) };
        let found = self.state.store(move |s| s.firmwares(&filter, Page::offset(0, 1))).await?;
        if found.items.is_empty() { Ok(()) } else { Err(exists()) }
    }

    fn finish(mut self) -> Result<Taken, ApiError> {
        let mut read = [String::new(), String::new()];
        let is_version: fn(&String) -> bool = |text| FW_VERSION_LEN.contains(&text.len());
        let is_type: fn(&String) -> bool = |text| TYPE_CHARS.contains(&text.chars().count());
        for (index, (unit, is_good)) in [("bytes", is_version), ("characters", is_type)].into_iter().enumerate() {
            let text = self.texts[index].as_deref();
            match text_of(text).filter(is_good) {
                Some(text) => read[index] = text,
                None if text.is_none() => self.faults.push(Fault::new(TEXTS[index], "is required")),
                None => {
                    let rule = format!("must be a text of 1 to 64 {unit} without control characters");
                    self.faults.push(Fault::new(TEXTS[index], rule));
                }
            }
        }
        let [version, device_type] = read;
        match self.image {
            Image::Stored(stored) if self.faults.is_empty() => Ok(Taken { stored, version, device_type }),
            Image::Stored(stored) => {
                let images = self.state.services.campaigns.images.clone();
                tokio::spawn(async move {
                    // What stays is swept up later.
                    let _ = images.remove(&stored.object).await;
                });
                Err(ApiError::Invalid(self.faults))
            }
            _ => {
                if self.faults.is_empty() {
                    self.faults.push(Fault::new("file", "is required"));
                }
                Err(ApiError::Invalid(self.faults))
            }
        }
    }
}

/// A text without control characters.
fn text_of(bytes: Option<&[u8]>) -> Option<String> {
    let text = std::str::from_utf8(bytes?).ok()?.trim();
    (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.to_owned())
}
