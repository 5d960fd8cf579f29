//! Points as a Parquet file, written while they come: a row group every [`GROUP_ROWS`] points.
//!
//! Bounded: one row group is held. Columns: `time` (µs, UTC), `device_id`, `metric`, `value`, `unit` and `quality` (null
//! where there is nothing to say).

use std::sync::{Arc, LazyLock};

use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};

use crate::series::Point;

/// Points of a row group.
const GROUP_ROWS: usize = 16_384;

static SCHEMA: LazyLock<TypePtr> = LazyLock::new(|| {
    let column = |name: &str, physical: Physical, logical: Option<LogicalType>, repetition: Repetition| {
        let built = Type::primitive_type_builder(name, physical)
            .with_repetition(repetition)
            .with_logical_type(logical)
            .build()
            .expect("the physical types below can carry the logical ones");
        Arc::new(built)
    };
    let text = |name: &str, repetition| column(name, Physical::BYTE_ARRAY, Some(LogicalType::String), repetition);
    let micros = LogicalType::timestamp(true, TimeUnit::MICROS);
    let fields = vec![
        column("time", Physical::INT64, Some(micros), Repetition::REQUIRED),
        text("device_id", Repetition::REQUIRED),
        text("metric", Repetition::REQUIRED),
        column("value", Physical::DOUBLE, None, Repetition::REQUIRED),
        text("unit", Repetition::OPTIONAL),
        text("quality", Repetition::OPTIONAL),
    ];
    let schema = Type::group_type_builder("iot_meter_metrics_v1").with_fields(fields).build();
    Arc::new(schema.expect("a group of primitive fields is a schema"))
});

/// Writes points of one device.
pub struct Table {
    device: ByteArray,
    points: Vec<Point>,
    file: SerializedFileWriter<Vec<u8>>,
}

impl Table {
    /// An empty file.
    pub fn new(device: &str) -> Result<Self, ParquetError> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap_or_default()))
            .build();
        let file = SerializedFileWriter::new(Vec::new(), Arc::clone(&SCHEMA), Arc::new(properties))?;
        Ok(Self { device: ByteArray::from(device), points: Vec::new(), file })
    }

    /// One point; what is ready to be sent goes to `out`.
    pub fn point(&mut self, point: Point, out: &mut Vec<u8>) -> Result<(), ParquetError> {
        self.points.push(point);
        if self.points.len() < GROUP_ROWS {
            return Ok(());
        }
        self.group()?;
        self.file.flush()?;
        out.append(self.file.inner_mut());
        Ok(())
    }

    /// The rest of the file.
    pub fn end(mut self, out: &mut Vec<u8>) -> Result<(), ParquetError> {
        if !self.points.is_empty() {
            self.group()?;
        }
        out.append(&mut self.file.into_inner()?);
        Ok(())
    }

    fn group(&mut self) -> Result<(), ParquetError> {
        let points = std::mem::take(&mut self.points);
        let mut group = self.file.next_row_group()?;
        let times: Vec<i64> = points.iter().map(|p| p.time.micros()).collect();
        column::<Int64Type>(&mut group, &times, None)?;
        column::<ByteArrayType>(&mut group, &vec![self.device.clone(); points.len()], None)?;
        let metrics: Vec<ByteArray> = points.iter().map(|p| ByteArray::from(p.quantity.name())).collect();
        column::<ByteArrayType>(&mut group, &metrics, None)?;
        let values: Vec<f64> = points.iter().map(|p| p.value).collect();
        column::<DoubleType>(&mut group, &values, None)?;
        for read in [Point::unit as fn(&Point) -> Option<&str>, |p| p.quality()] {
            let levels: Vec<i16> = points.iter().map(|p| i16::from(read(p).is_some())).collect();
            let texts: Vec<ByteArray> = points.iter().filter_map(|p| read(p).map(ByteArray::from)).collect();
            column::<ByteArrayType>(&mut group, &texts, Some(&levels))?;
        }
        group.close()?;
        Ok(())
    }
}

fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: &[T::T],
    levels: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let mut column = group.next_column()?.ok_or_else(|| ParquetError::General("more values than columns".into()))?;
    column.typed::<T>().write_batch(values, levels, None)?;
    column.close()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::series::Quantity;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    #[test]
    fn a_file_written_in_pieces_reads_back_as_one() {
        let count = GROUP_ROWS as i64 * 2 + 7;
        let mut table = Table::new("m-1").unwrap();
        let (mut file, mut pieces) = (Vec::new(), 0);
        for n in 0..count {
            let quantity = Quantity::parse("voltage_dc").unwrap();
            let point = Point { time: Timestamp(n), quantity, value: n as f64, unit: None, is_plausible: n % 2 == 0 };
            let before = file.len();
            table.point(point, &mut file).unwrap();
            pieces += u32::from(file.len() > before);
        }
        table.end(&mut file).unwrap();
        assert_eq!(pieces, 2);
        let reader = SerializedFileReader::new(bytes::Bytes::from(file)).unwrap();
        assert_eq!(reader.metadata().file_metadata().num_rows(), count);
        let last = reader.get_row_iter(None).unwrap().last().unwrap().unwrap().to_string();
        assert!(last.contains("\"m-1\"") && last.contains("\"voltage_dc\"") && last.contains("\"V\""), "{last}");
    }
}
